# From wildcards to where a training begins: a trunk that it shares with others, or what `init` names.


def trunk_folder(trunk):
    """Where a trunk lies; nowhere if there is none."""
    return f"{RESULTS}/trunks/{trunk.name}" if trunk else []


def trunk_of_run(wildcards):
    """The trunk that a run grows from, if it shares one."""
    return trunk_folder(PLAN.trunks.get(wildcards.run))


def initial_model(wildcards):
    """The model, or the state at a step, of the run that this one starts from, or a model from elsewhere, if any."""
    run = PLAN.runs[wildcards.run]
    return f"{RESULTS}/models/{run.model}" if run.model in PLAN.pretrained else started_from(run.init)


def started_from(init):
    if not init:
        return []
    return trunk_folder(PLAN.initial_trunk(init)) or f"{RESULTS}/runs/{init.run}/model"


def beginning(wildcards, input):
    """The options that say where a training begins."""
    return " ".join(f"--{key} {path}" for key in ("init", "trunk") if (path := getattr(input, key)))


def trunk(wildcards):
    return PLAN.trunks_by_name[f"{wildcards.trunk}/{wildcards.step}"]


def trunk_spec(wildcards):
    return canonical_json(PLAN.trunk_spec(f"{wildcards.trunk}/{wildcards.step}"))


def trunk_tokens(wildcards):
    return f"{RESULTS}/{data_of(trunk(wildcards).spec)}/index.json"


def trunk_tokenizer(wildcards):
    return f"{RESULTS}/tokenizers/{trunk(wildcards).spec['tokenizer']}/tokenizer.json"


def trunk_init(wildcards):
    wildcards.run, *_ = [name for name, last in PLAN.trunks.items() if trunk(wildcards) in last.chain]
    return initial_model(wildcards)


def trunk_before(wildcards):
    return trunk_folder(trunk(wildcards).before)
