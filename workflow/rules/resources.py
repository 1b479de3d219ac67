"""Resources of jobs: which are known, and whether those of a training are possible."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields

from snakemake.resources import Resource
from snakemake.settings.types import ResourceSettings

from seedbed.errors import SeedbedError, choices
from seedbed.train.execution import Execution

# How a training is computed, by resource; its threads are the rule's.
EXECUTION = {
    field.name: int(field.default) if field.type is bool else field.default
    for field in fields(Execution)
    if field.name != "threads"
}
# Resources that a rule's job reads.
OWN = {"pretrain": EXECUTION, "pretrain_trunk": EXECUTION, "evaluate": ("batch_tokens",)}
# What Snakemake and its executors give a meaning to.
KNOWN = re.compile(
    "_.*|(mem|disk|vmem)(_m(i)?b)?(_per_(cpu|gpu|core))?|runtime|walltime|tmpdir|nodes|tasks.*|mpi|gpus?|gpu_.*|gpus_.*|"
    "cpus_.*|cores|ntasks.*|gres|qos|partition|account|constraint|clusters?|reservation|exclude|nodelist|slurm_.*|"
    "lsf_.*|sge_.*|pbs_.*|htcondor_.*|kubernetes_.*|googlebatch_.*|machine_type|container.*"
)


def check_resources(settings: ResourceSettings, rules: Mapping[str, Mapping[str, Resource]]) -> None:
    """Raise SeedbedError where a resource is set that nobody reads, or one that no training can be computed with.

    `rules` are the resources of each rule by name, those of the profile and the command line included.
    """
    limits = [*settings.resources, *(settings.default_resources or [])]
    check_names(settings.overwrite_resources, rules, limits)
    for rule in ("pretrain", "pretrain_trunk"):
        check_execution(rule, {name: resource.raw for name, resource in rules[rule].items()})


def check_names(given: Mapping[str, Iterable[str]], rules: Iterable[str], shared: Iterable[str]) -> None:
    """Raise SeedbedError at the first rule or resource that `--set-resources` names and nobody reads.

    `given` are the names of resources by rule; `shared` those that a limit or a default is given for.
    """
    for rule, names in given.items():
        if rule not in rules:
            raise SeedbedError(f"set-resources: no rule is called {rule!r}{choices(rule, rules)}")
        own = OWN.get(rule, ())
        for name in names:
            if name not in own and name not in shared and not KNOWN.fullmatch(name):
                raise SeedbedError(f"set-resources: {rule} has no resource {name!r}{choices(name, own)}")


def check_execution(rule: str, values: Mapping[str, int | str]) -> None:
    """Raise SeedbedError when no training can be computed with these resources."""
    try:
        Execution(**{name: values[name] for name in EXECUTION if name in values})
    except SeedbedError as error:
        raise SeedbedError(f"resources of {rule}: {error}") from None
