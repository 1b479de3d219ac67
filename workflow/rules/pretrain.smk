# Training on DeepSpeed.
#
# Takes: tokens or contexts, a tokenizer, and what `init` names (config `runs` and the variants of `studies`).
# Gives: runs/<run>/{run.json,metrics.jsonl,model/,summary.json}; TensorBoard events and checkpoints lie beside them.
#        trunks/<common part>/<step>/: the first updates of several runs, trained once; a checkpoint with its metrics.
#
# The script is no input, so that editing it retrains nothing. Checkpoints are no output, because outputs are deleted
# before a job: a job that starts again goes on from the last one, or only publishes what is finished.


rule pretrain:
    input:
        tokens=tokens_of,
        tokenizer=tokenizer_of_run,
        init=initial_model,
        trunk=trunk_of_run,
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
        offload="none",
        gradient_checkpointing=0,
        compile=0,
        checkpoint_seconds=300,
        checkpoint_steps=0,
        checkpoint_keep=2,
    params:
        spec=spec("run"),
        name=lambda wildcards: wildcards.run,
        begin=beginning,
        until="",
        out=lambda wildcards, output: str(Path(output[0]).parent),
    message:
        "Training {wildcards.run}"
    shell:
        "python scripts/pretrain.py"
        " --run {params.name:q}"
        " --spec {params.spec:q}"
        " --tokens $(dirname {input.tokens:q})"
        " --tokenizer $(dirname {input.tokenizer:q})"
        " {params.begin}"
        " {params.until}"
        " --out {params.out:q}"
        " --processes {resources.processes}"
        " --micro-batch {resources.micro_batch}"
        " --zero-stage {resources.zero_stage}"
        " --offload {resources.offload}"
        " --gradient-checkpointing {resources.gradient_checkpointing}"
        " --compile {resources.compile}"
        " --checkpoint-seconds {resources.checkpoint_seconds}"
        " --checkpoint-steps {resources.checkpoint_steps}"
        " --checkpoint-keep {resources.checkpoint_keep}"
        " --threads {threads}"
        " --log {log:q}"


use rule pretrain as pretrain_trunk with:
    input:
        tokens=trunk_tokens,
        tokenizer=trunk_tokenizer,
        init=trunk_init,
        trunk=trunk_before,
    output:
        state=directory(f"{RESULTS}/trunks/{{trunk}}/{{step}}"),
    log:
        f"{RESULTS}/logs/pretrain_trunk/{{trunk}}/{{step}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/pretrain_trunk/{{trunk}}/{{step}}.tsv"
    params:
        spec=trunk_spec,
        name=lambda wildcards: f"trunk-{wildcards.trunk}",
        begin=beginning,
        until=lambda wildcards: f"--until {wildcards.step}",
        out=lambda wildcards, output: str(Path(output[0]).parent),
    message:
        "Training the first {wildcards.step} steps of several runs"
