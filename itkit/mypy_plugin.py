"""For mypy: ``backends[StripeGateway].chrge`` is an error, as the class has no such method.

In the project's configuration of mypy: ``plugins = ["itkit.mypy_plugin"]``. Without the plugin
every name is a method of a handle.
"""

from collections.abc import Callable

from mypy.plugin import AttributeContext, Plugin
from mypy.types import Instance, Type, get_proper_type

from itkit.core.text import did_you_mean

_HANDLE = "itkit.fakes.handles.Handle."


class ItkitPlugin(Plugin):
    """Knows of a handle which class it is the handle of."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """Return what checks an attribute that a handle does not have itself."""
        return _checked if fullname.startswith(_HANDLE) else None


def plugin(_version: str) -> type[Plugin]:
    """Return the plugin, as mypy asks for it."""
    return ItkitPlugin


def _checked(context: AttributeContext) -> Type:
    handle = get_proper_type(context.type)
    name = getattr(context.context, "name", "")
    if isinstance(handle, Instance) and handle.args and not handle.type.get(name):
        real = get_proper_type(handle.args[0])
        if isinstance(real, Instance) and real.type.get(name) is None:
            known = sorted(
                item for kind in real.type.mro for item in kind.names if not item.startswith("_")
            )
            message = f"{real.type.name} has no method {name!r}. {did_you_mean(name, known)}"
            context.api.fail(message, context.context)
    return context.default_attr_type
