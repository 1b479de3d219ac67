# Training on DeepSpeed.
#
# Takes: what a run says it reads (tokens or contexts, a tokenizer), and what `init` names (config `runs` and the variants
#        of `studies`).
# Gives: runs/<run>/{run.json,metrics.jsonl,model/,summary.json}; TensorBoard events and checkpoints lie beside them.
#        trunks/<common part>/<step>/: the first updates of several runs, trained once; a checkpoint with its metrics.
#
# The script is no input, so that editing it retrains nothing. Checkpoints are no output, because outputs are deleted
# before a job: a job that starts again resumes from the last one, or only publishes what is finished.
include: "../inputs/pretrain.smk"


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
        until=[],
        out=lambda wildcards, output: str(Path(output[0]).parent),
        script=lambda wildcards, output: code("scripts/pretrain.py"),
    message:
        "Training {wildcards.run}"
    shell:
        "python {params.script:q}"
        " --run {params.name:q}"
        " --spec {params.spec:q}"
        " {params.inputs:q}"
        " {params.until:q}"
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
        until=lambda wildcards: ["--until", wildcards.step],
        out=lambda wildcards, output: str(Path(output[0]).parent),
        script=lambda wildcards, output: code("scripts/pretrain.py"),
    message:
        "Training the first {wildcards.step} steps of several runs"
