"""What can go wrong with the embedded broker, each as one sentence that a user can act on.

BrokerError
├── BrokerUnsupported   the installed librdkafka has no mock cluster
├── PortInUse           the chosen port is taken
└── ControlError        the control socket refused, or could not be used
"""


class BrokerError(Exception):
    """The embedded broker cannot do what was asked; the text says why and what to do."""


class BrokerUnsupported(BrokerError):
    """The installed confluent-kafka exports no mock cluster."""


class PortInUse(BrokerError):
    """The chosen port belongs to another program, or to another broker."""


class ControlError(BrokerError):
    """A running broker refused a control request, or its control socket cannot be used."""
