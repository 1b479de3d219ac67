# Training on DeepSpeed.
#
# Takes: tokens, a tokenizer, and what `init` names (config `runs` and the variants of `studies`).
# Gives: runs/<run>/{run.json,metrics.jsonl,model/,summary.json}; TensorBoard events and checkpoints lie beside them.
#
# The script is no input, so that editing it retrains nothing. Checkpoints are no output, because outputs are deleted
# before a job: a job that starts again goes on from the last one, or only publishes what is finished.


def initial_model(wildcards):
    """The model of the run that this one starts from, if any."""
    init = PLAN.runs[wildcards.run].init
    return f"{RESULTS}/runs/{init.run}/model" if init else []


rule pretrain:
    input:
        tokens=tokens_of,
        tokenizer=lambda wildcards: f"{RESULTS}/tokenizers/{PLAN.runs[wildcards.run].tokenizer}/tokenizer.json",
        init=initial_model,
    output:
        run=f"{RESULTS}/runs/{{run}}/run.json",
        metrics=f"{RESULTS}/runs/{{run}}/metrics.jsonl",
        model=directory(f"{RESULTS}/runs/{{run}}/model"),
        summary=f"{RESULTS}/runs/{{run}}/summary.json",
    params:
        spec=spec("run"),
        init=lambda wildcards, input: f"--init {input.init}" if input.init else "",
    log:
        f"{RESULTS}/logs/pretrain/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain/{{run}}.tsv"
    conda:
        "../../envs/seedbed.yaml"
    threads: 64
    resources:
        processes=1,
        micro_batch=0,
        zero_stage=0,
        checkpoint_seconds=300,
    message:
        "Training {wildcards.run}"
    shell:
        "python scripts/pretrain.py"
        " --run {wildcards.run:q}"
        " --spec {params.spec:q}"
        " --tokens $(dirname {input.tokens:q})"
        " --tokenizer $(dirname {input.tokenizer:q})"
        " {params.init}"
        " --out $(dirname {output.run:q})"
        " --processes {resources.processes}"
        " --micro-batch {resources.micro_batch}"
        " --zero-stage {resources.zero_stage}"
        " --checkpoint-seconds {resources.checkpoint_seconds}"
        " --threads {threads}"
        " --log {log:q}"
