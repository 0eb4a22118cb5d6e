"""From a YAML file to a checked model, or one error that lists every fault with its place."""

from __future__ import annotations

import json
import os
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from sugarsearch.config import yamlfile
from sugarsearch.config.fields import Names
from sugarsearch.config.schema import SearchSpace
from sugarsearch.errors import ConfigurationError, Problem, UnknownNameError, nearest_names

Kind = Literal["studies", "search_spaces", "baselines", "baselines/recipes", "baselines/rows"]
M = TypeVar("M", bound=BaseModel)

_SINGULAR: dict[Kind, str] = {
    "studies": "study",
    "search_spaces": "search space",
    "baselines": "baseline",
    "baselines/recipes": "recipe",
    "baselines/rows": "set of rows",
}

_MAX_KEYS = 10
_PLAIN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # control characters and halves of surrogate pairs

# YAML's words in the place of JSON's and Python's.
_MAPPING = "should be a mapping (key: value)"
_REASONS = {"model_type": _MAPPING, "dict_type": _MAPPING, "tuple_type": "should be a list"}

_PACKAGE = Path(__file__).resolve().parent.parent


def shipped_folder(kind: Kind) -> Path:
    """The folder of shipped files: inside an installed wheel, or at the top of a source checkout."""
    installed = _PACKAGE / "shipped" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def shipped(kind: Kind) -> dict[str, Path]:
    """Shipped YAML files by bare name."""
    return {path.stem: path for path in sorted(shipped_folder(kind).glob("*.yaml"))}


def find(kind: Kind, given: str, beside: Path | None = None) -> Path:
    """The file that `given` means: a path (also relative to the folder `beside`), or a shipped bare name.

    Raises:
        UnknownNameError: a bare name that is not shipped; paths are left to the reader to refuse.
    """
    if given.endswith((".yaml", ".yml")) or os.sep in given:
        path = Path(given)
        return beside / path if beside and not path.is_absolute() and not os.path.exists(path) else path  # noqa: PTH110
    known = shipped(kind)
    if given not in known:
        raise UnknownNameError(_SINGULAR[kind], given, known)
    return known[given]


def load(path: Path | str, model: type[M], names: Names | None = None, overrides: Sequence[str] = ()) -> M:
    """Read `path` and check it against `model`; `overrides` are `key.key=value` texts.

    Raises:
        ConfigurationError: with every fault of the file.
    """
    return check(yamlfile.read(path), model, names, overrides)


def check(
    document: yamlfile.Document,
    model: type[M],
    names: Names | None = None,
    overrides: Sequence[str] = (),
    option: str = "--set",
) -> M:
    """Check a document against `model`; see `apply_overrides`.

    Its `space` and its `rows` may be a name or a path; its `recipe`, and that of each of its `models`, may say
    `like: NAME`, of a shipped recipe, and then needs only the keys in which it differs.
    """
    space = [text for text in overrides if text.partition("=")[0].strip() == "space"]
    apply_overrides(document, space, option)
    if "space" in model.model_fields:
        _graft(document, ("space",), "search_spaces")  # a space given by name is there before a key of it is set
    if "recipe" in model.model_fields:
        _graft_recipe(document, document.value, ())
    if "models" in model.model_fields:
        models = document.value.get("models")
        for name, one in models.items() if isinstance(models, dict) else ():
            _graft_recipe(document, one, ("models", name))
        _graft(document, ("rows",), "baselines/rows")
    apply_overrides(document, [text for text in overrides if text not in space], option)
    _expand_names(model, document.value)
    value = _without_control_characters(document, document.value, ())
    problems = document.problems
    try:
        # JSON mode is strict about types and still takes a list for a tuple.
        result = model.model_validate_json(json.dumps(value), context={"names": names})
    except ValidationError as error:
        faults = [fault for fault in error.errors() if not _is_known(document, fault)]
        problems = problems + [
            _problem(document, model, fault) for fault in faults if not _is_a_consequence(fault, faults)
        ]
    if problems:
        raise ConfigurationError(sorted(set(problems), key=lambda p: (p.path, p.line, p.column)))
    return result


def apply_overrides(document: yamlfile.Document, overrides: Sequence[str], option: str = "--set") -> None:
    """Set values by dotted key, as `--set recipe.epochs=3` does; faults name the `option` that they came by."""
    for text in overrides:
        key, sign, value = text.partition("=")
        keys = tuple(key.strip().split("."))
        if not sign or not all(keys) or len(keys) > _MAX_KEYS:
            message = f"{_shown(text)} is not allowed; write key.key=value, such as recipe.epochs=3."
            document.problems.append(Problem(option, 0, 0, message))
            continue
        place = yamlfile.Position(f"{option} {text if len(text) <= 80 else text[:77] + '...'}", 0, 0)
        target = document.value
        for depth, part in enumerate(keys[:-1]):
            if not isinstance(target.get(part), dict):
                # `model: resnet18` is short for {name: resnet18}: keep the name when an option is set beside it.
                target[part] = {"name": target[part]} if isinstance(target.get(part), str) else {}
            target = target[part]
            document.positions.setdefault(keys[: depth + 1], place)
        target[keys[-1]], faults = yamlfile.scalar(value)
        for location in [known for known in document.positions if known[: len(keys)] == keys]:
            del document.positions[location]
        document.positions[keys] = place
        for fault in faults:
            document.refuse(keys, f"{'.'.join(keys)}: {fault}")


def _graft(document: yamlfile.Document, location: yamlfile.Location, kind: Kind) -> None:
    """Replace what is given at `location` by name or path with that file's content."""
    given, name = document.value, ".".join(map(str, location))
    for key in location:
        given = given.get(key) if isinstance(given, dict) else None
    if not isinstance(given, str) or location in document.faulty:
        return
    try:
        document.graft(location, yamlfile.read(find(kind, given, beside=Path(document.path).parent)))
    except UnknownNameError as error:
        document.refuse(location, f"{name}: {error}")
    except ConfigurationError as error:
        for problem in error.problems:
            if problem.line:
                document.problems.append(problem)
                document.faulty.add(location)
            else:  # the file as a whole: the place is where it is named
                document.refuse(location, f"{name}: {problem}")


def _graft_recipe(document: yamlfile.Document, holder: Any, location: yamlfile.Location) -> None:
    """Give the recipe of `holder`, at `location`, the keys of the shipped one that it is `like`, where it has none."""
    recipe = holder.get("recipe") if isinstance(holder, dict) else None
    if not isinstance(recipe, dict) or "like" not in recipe:
        return
    place = (*location, "recipe")
    like = (*place, "like")
    if not isinstance(recipe["like"], str):
        name = ".".join(map(str, like))
        document.refuse(like, f"{name} is {_shown(recipe['like'])}; write the name of a shipped recipe or a path.")
    _graft(document, like, "baselines/recipes")
    shared = recipe.pop("like")
    if like in document.faulty or not isinstance(shared, dict):
        document.faulty.add(place)
        return
    holder["recipe"] = {**shared, **recipe}
    grafted = [known for known in document.positions if known[: len(like)] == like and len(known) > len(like)]
    for known in grafted:
        document.positions.setdefault((*place, *known[len(like) :]), document.positions[known])


def _without_control_characters(document: yamlfile.Document, value: Any, location: yamlfile.Location) -> Any:
    """`value` without the characters that no name, path or text needs, each of which is noted as a fault."""
    if isinstance(value, dict):
        return {
            _PLAIN.sub("?", key): _without_control_characters(document, item, (*location, key))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without_control_characters(document, item, (*location, i)) for i, item in enumerate(value)]
    if isinstance(value, str) and (found := _PLAIN.search(value)):
        name = ".".join(map(str, location))
        document.refuse(location, f"{name} holds the character {found[0]!r}, which is not allowed.")
        return _PLAIN.sub("?", value)
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _expand_names(model: type[BaseModel], value: dict[str, Any]) -> None:
    """Where a mapping with a name is expected, the bare name will do: `model: resnet18`."""
    for key, info in model.model_fields.items():
        inner, given = info.annotation, value.get(key)
        if typing.get_origin(inner) is dict and isinstance(given, dict):
            item = typing.get_args(inner)[1]
            for one in given.values() if isinstance(item, type) and issubclass(item, BaseModel) else ():
                if isinstance(one, dict):
                    _expand_names(item, one)
            continue
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            continue
        if isinstance(given, str) and "name" in inner.model_fields and not issubclass(inner, SearchSpace):
            value[key] = {"name": given}
        elif isinstance(given, dict):
            _expand_names(inner, given)


def _is_known(document: yamlfile.Document, fault: Any) -> bool:
    """Whether it comes of a value that was refused before: it lies in it, or is ours about what it is part of."""
    where = fault["loc"]
    return any(
        where[: len(place)] == place or (fault["type"] == "sugarsearch" and place[: len(where)] == where)
        for place in document.faulty
    )


def _is_a_consequence(fault: Any, faults: Sequence[Any]) -> bool:
    """A list is called too short when its items are faulty: the items' own faults say enough."""
    inner = len(fault["loc"]) + 1
    return fault["type"] == "too_short" and any(
        other["loc"][: inner - 1] == fault["loc"] for other in faults if len(other["loc"]) >= inner
    )


def _problem(document: yamlfile.Document, model: type[BaseModel], fault: Any) -> Problem:
    location = tuple(fault["loc"])
    place = document.position(location)
    if not location and fault["type"] == "sugarsearch":  # ours about the whole: it says itself what is wrong
        return Problem(place.path, place.line, place.column, fault["msg"])
    name = ".".join(map(str, location)) or "the file"
    return Problem(place.path, place.line, place.column, f"{name} {_words(model, location, fault)}")


def _words(model: type[BaseModel], location: yamlfile.Location, fault: Any) -> str:
    kind, given = fault["type"], fault["input"]
    if kind == "sugarsearch":
        return f"is not allowed: {fault['msg']}"
    if kind == "missing":
        return "is missing."
    if kind == "extra_forbidden":
        allowed = _fields_at(model, location[:-1])
        nearest = nearest_names(str(location[-1]), allowed)
        hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"allowed: {', '.join(allowed)}."
        return f"is not allowed; {hint}"
    if kind == "too_short":
        return f"is {_shown(given)}; at least {fault['ctx']['min_length']} item(s) are needed."
    reason = fault["msg"][0].lower() + fault["msg"][1:]
    return f"is {_shown(given)}; {_REASONS.get(kind, reason.removeprefix('input '))}."


def _fields_at(model: type[BaseModel], location: yamlfile.Location) -> list[str]:
    """The field names allowed at `location`, found by walking the annotations."""
    here: Any = model
    for key in location:
        if isinstance(here, type) and issubclass(here, BaseModel):
            info = here.model_fields.get(str(key))
            here = info.annotation if info else None
        else:
            arguments = [a for a in typing.get_args(here) if a is not type(None)]
            here = arguments[-1] if arguments else None
        if typing.get_origin(here) in (typing.Union, types.UnionType):
            models = [a for a in typing.get_args(here) if isinstance(a, type) and issubclass(a, BaseModel)]
            here = models[0] if models else None
    return sorted(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []
