# Inputs and params of training: what a run reads, and what it starts from, from wildcards to paths and specs.
from resources import EXECUTION

EXECUTION_OPTIONS = " ".join(f"--{name.replace('_', '-')} {{resources.{name}:q}}" for name in EXECUTION)


def trunk_folder(trunk):
    """Where a trunk lies; nowhere if there is none."""
    return f"{RESULTS}/trunks/{trunk.name}" if trunk else []


def inputs_of(run):
    """What a run reads, by name: what its objective names, and what it starts from."""
    run = PLAN.runs[run]
    inputs = {name: f"{RESULTS}/{path}" for name, path in run.inputs().items()}
    inputs |= {name: literal(path) for name, path in run.files().items()}
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
    return inputs_of(PLAN.trunk_users[trunk.name].first[0]) | before


def trunk_spec(wildcards):
    return spec_file("trunk", specs.trunk_spec(PLAN, trunk_name(wildcards)))
