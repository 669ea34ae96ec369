"""What the models of the wire have in common."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A model that is built when it is used first.

    There are some ninety, and one process uses few of them: building all of them is most of what importing them costs.
    Threads may use one for the first time at once: pydantic sees to that.
    """

    model_config = ConfigDict(defer_build=True)
