# Training on DeepSpeed.
#
# Takes: what a run says it reads (tokens or contexts, a tokenizer), and what `init` names (config `runs` and the variants
#        of `studies`).
# Gives: runs/<run>/{run.json,metrics.jsonl,model/,summary.json}; TensorBoard events and checkpoints lie beside them.
#        trunks/<common part>/<step>/: the first updates of several runs, trained once; a checkpoint with its metrics.
#
# The script is no input, so that editing it retrains nothing. Checkpoints are no output, because outputs are deleted
# before a job: a job that starts again resumes from the last one, or only publishes what is finished.


from resources import EXECUTION

EXECUTION_OPTIONS = " ".join(f"--{name.replace('_', '-')} {{resources.{name}}}" for name in EXECUTION)


def trunk_folder(trunk):
    """Where a trunk lies; nowhere if there is none."""
    return f"{RESULTS}/trunks/{trunk.name}" if trunk else []


def inputs_of(run):
    """What a run reads, by name: what its objective names, and what it starts from."""
    run = PLAN.runs[run]
    inputs = {name: f"{RESULTS}/{path}" for name, path in run.inputs().items()}
    if run.init:
        trunk = trunk_folder(PLAN.initial_trunk(run.init))
        inputs["init"] = trunk or f"{RESULTS}/runs/{run.init.run}/model"
    return inputs


def run_inputs(wildcards):
    """What a run reads, and the trunk that it grows from, if it shares one."""
    trunk = PLAN.trunks.get(named("run", wildcards))
    return inputs_of(wildcards.run) | ({"trunk": trunk_folder(trunk)} if trunk else {})


def trunk_name(wildcards):
    return known("trunk", f"{wildcards.trunk}/{wildcards.step}", PLAN.trunks_by_name)


def trunk_inputs(wildcards):
    """What the runs that share a trunk read, and the trunk before it, if there is one."""
    trunk = PLAN.trunks_by_name[trunk_name(wildcards)]
    before = {"trunk": trunk_folder(trunk.before)} if trunk.before else {}
    return inputs_of(PLAN.grown_from(trunk)[0]) | before


def trunk_spec(wildcards):
    return canonical_json(specs.trunk_spec(PLAN, trunk_name(wildcards)))


rule pretrain:
    input:
        unpack(run_inputs),
    output:
        run=f"{RESULTS}/runs/{{run}}/run.json",
        metrics=f"{RESULTS}/runs/{{run}}/metrics.jsonl",
        model=directory(f"{RESULTS}/runs/{{run}}/model"),
        summary=f"{RESULTS}/runs/{{run}}/summary.json",
    log:
        f"{RESULTS}/logs/pretrain/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{run}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    threads: 64
    resources:
        **EXECUTION,
    params:
        spec=spec("run"),
        name=lambda wildcards: wildcards.run,
        inputs=named_inputs,
        until="",
        out=lambda wildcards, output: str(Path(output[0]).parent),
        script=lambda wildcards, output: code("scripts/pretrain.py"),
    message:
        "Training {wildcards.run}"
    shell:
        "python {params.script:q}"
        " --run {params.name:q}"
        " --spec {params.spec:q}"
        " {params.inputs}"
        " {params.until}"
        " --out {params.out:q}"
        f" {EXECUTION_OPTIONS}"
        " --threads {threads}"
        " --log {log:q}"


use rule pretrain as pretrain_trunk with:
    input:
        unpack(trunk_inputs),
    output:
        state=directory(f"{RESULTS}/trunks/{{trunk}}/{{step}}"),
    log:
        f"{RESULTS}/logs/pretrain_trunk/{{trunk}}/{{step}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain_trunk/{{trunk}}/{{step}}.tsv"
    params:
        spec=trunk_spec,
        name=lambda wildcards: f"trunk-{wildcards.trunk}",
        inputs=named_inputs,
        until=lambda wildcards: f"--until {wildcards.step}",
        out=lambda wildcards, output: str(Path(output[0]).parent),
        script=lambda wildcards, output: code("scripts/pretrain.py"),
    message:
        "Training the first {wildcards.step} steps of several runs"
