"""The directive ``steps-table``: every step and its parameters, as the code declares them."""

from collections.abc import Iterator

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from napari_denoise_classify import steps
from napari_denoise_classify.core.parameters import Parameter
from napari_denoise_classify.core.steps import StepSpec

KINDS = ("denoise", "mask", "classifier", "explain", "area")


class StepsTable(SphinxDirective):
    """Describe the steps of one kind, which is the argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # nothing else tells Sphinx that a step changed
        kind = directives.choice(self.arguments[0], KINDS)
        source, _ = self.get_source_info()
        result: list[nodes.Node] = []
        for spec in steps(kind):
            section = nodes.section(ids=[f"step-{spec.id}"], names=[f"step-{spec.id}"])
            section += nodes.title("", "", nodes.Text(f"{spec.title}: "), nodes.literal("", spec.id))
            self.state.nested_parse(StringList(list(markdown(spec)), source), 0, section)
            result.append(section)
        return result


def markdown(spec: StepSpec) -> Iterator[str]:
    yield spec.summary
    yield ""
    if spec.reference:
        yield f"*Source:* {spec.reference}"
        yield ""
    if not spec.parameters:
        yield "No parameters."
        return
    yield "| Parameter | Default | Allowed | Meaning |"
    yield "|---|---|---|---|"
    for parameter in spec.parameters:
        cells = (f"`{parameter.name}`", default(parameter), parameter.allowed, parameter.help)
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def default(parameter: Parameter) -> str:
    return "nothing" if parameter.default is None else f"`{parameter.default}` {parameter.unit}".strip()


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("steps-table", StepsTable)
    return {"parallel_read_safe": True}
