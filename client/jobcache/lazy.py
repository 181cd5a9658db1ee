"""A pydantic model that makes its costly fields when somebody first looks at them.

A listing shows names, times and states; parsing every job's ``config`` would take most of its time. So a model may be
put together without some fields, and with something that can make them. Nobody can tell: an attribute that is missing
is asked for through ``__getattr__``, and whatever reads a model as a whole (serializing, comparing, copying, pickling,
``vars``) does so through ``__dict__``, which is a property here that makes it whole first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)

_set = object.__setattr__
_get = object.__getattribute__
# The descriptor that this module's property shadows: the fields as they are in memory.
_present = BaseModel.__dict__["__dict__"]


class Rest(Protocol):
    """What makes the fields that a model was put together without."""

    def make_rest(self) -> dict[str, Any]:
        """Their values by name, each of them new, so that the model may do with them as it likes."""

    def rest_as_json(self) -> dict[str, bytes] | None:
        """Their values as JSON text that any parser reads; None where there is none such."""


def assemble(
    model: type[M], fields: dict[str, Any], fields_set: set[str], rest: Rest | None = None
) -> M:
    """A model around fields that are known to be right: what ``model_construct`` makes, in a fraction of its time.

    Args:
        model: the class; one of ``LazyModel`` if there is a rest.
        fields: the values by name; the model owns the dict from now on.
        fields_set: what counts as set. Shared by all models: who sets a field adds a name that is there already.
        rest: makes the fields that are missing; None when none is.
    """
    made = model.__new__(model)
    _present.__set__(made, fields)
    _set(made, "__pydantic_fields_set__", fields_set)
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    if rest is not None:
        _set(made, "_rest", rest)
    return made


def peek(model: BaseModel) -> tuple[dict[str, Any], Rest | None]:
    """The fields that a model has in memory, and what will make the others; None when it has all of them.

    For who can do without the others, such as a serializer that takes their JSON. The dict is the model's own.
    """
    return _present.__get__(model), getattr(model, "_rest", None)


class LazyModel(BaseModel):
    """A model that can be put together with some of its fields to be made later."""

    __slots__ = ("_rest",)

    if not TYPE_CHECKING:  # which knows these of every object, and would take any attribute for one

        @property
        def __dict__(self) -> dict[str, Any]:
            fields = _present.__get__(self)
            try:
                rest = _get(self, "_rest")
            except AttributeError:
                return fields
            if rest is not None:
                whole: dict[str, Any] = dict.fromkeys(type(self).model_fields)  # for their order
                whole.update(rest.make_rest())
                whole.update(fields)  # which somebody may have set
                _present.__set__(self, whole)
                _set(self, "_rest", None)
                return whole
            return fields

        @__dict__.setter
        def __dict__(self, fields: dict[str, Any]) -> None:
            _present.__set__(self, fields)

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                fields = self.__dict__
                if name in fields:
                    return fields[name]
            return super().__getattr__(name)

        def __delattr__(self, name: str) -> None:
            _ = self.__dict__
            super().__delattr__(name)
