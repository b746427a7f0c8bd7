"""Which provider and model a request goes to."""

from collections.abc import Mapping

from service.contracts.enums import LLMProviderType
from service.contracts.error_codes import LLMErrorCode
from service.contracts.requests import LLMConfigOverrides
from service.core.errors import Refused
from service.core.ports import LLMProvider
from service.core.records import Route


class Router:
    """Knows the configured providers; the default one answers where a request names none."""

    def __init__(self, providers: Mapping[LLMProviderType, LLMProvider], default: LLMProviderType) -> None:
        self._providers = providers
        self._default = default

    @property
    def default(self) -> LLMProviderType:
        """The provider of requests that name none."""
        return self._default

    def names(self) -> list[LLMProviderType]:
        """The configured providers, in alphabetical order."""
        return sorted(self._providers)

    def named(self, name: LLMProviderType) -> LLMProvider:
        """A configured provider."""
        return self._providers[name]

    def choose(self, overrides: LLMConfigOverrides | None) -> Route:
        """Decides where a request goes. Raises `Refused` with `INVALID_CONFIG`."""
        name = (overrides.provider_override if overrides else None) or self._default
        provider = self._providers.get(name)
        if provider is None:
            configured = ", ".join(sorted(self._providers)) or "none"
            raise _refuse(
                f"The provider {name} is not configured here (configured: {configured}); an operator sets "
                f"LLM_PROVIDER_SERVICE_{name.upper()}_API_KEY."
            )
        model = (overrides.model_override if overrides else None) or provider.default_model
        objection = provider.find_objection(model, overrides)
        if objection is not None:
            raise _refuse(objection)
        return Route(name, model)

    def provider(self, route: Route) -> LLMProvider:
        """The provider of a route that `choose` has returned."""
        return self._providers[route.provider]


def _refuse(message: str) -> Refused:
    return Refused(LLMErrorCode.INVALID_CONFIG, message, details={"field": "llm_config_overrides"})
