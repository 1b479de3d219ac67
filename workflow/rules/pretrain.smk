# Training on DeepSpeed.
#
# Takes: tokens, a tokenizer, and what `init` names (config `runs` and the variants of `studies`).
# Gives: runs/<run>/{run.json,metrics.jsonl,model/,summary.json}; TensorBoard events and checkpoints lie beside them.
#
# The script is no input, so that editing it retrains nothing. Checkpoints are no output, because outputs are deleted
# before a job: a job that starts again goes on from the last one, or only publishes what is finished.


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
    params:
        spec=spec("run"),
        init=lambda wildcards, input: f"--init {input.init}" if input.init else "",
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
