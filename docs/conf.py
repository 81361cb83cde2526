"""The documentation as a site: `poe docs` builds it in build/site.

Pages and pictures are those of this folder, docstrings those of the installed package,
the C functions those of csrc/*.h, the gallery the programs in examples/gallery.
"""

import contextlib
import os
import re
import sys
import sysconfig
from inspect import isclass, ismodule
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from numpydoc.xref import DEFAULT_LINKS
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms import SphinxTransform

import lenet5c
from lenet5c._support.cores import core

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))  # for figures.py
sys.modules["lenet5c.core.network"] = core  # as its source is called
# The public ones, whose classes may be lenet5c's own as well; so that comes last.
MODULES = [*filter(ismodule, (getattr(lenet5c, n) for n in lenet5c.__all__)), lenet5c]

project = "lenet5c"
author = "the authors of lenet5c"
version = release = lenet5c.__version__
html_title = f"lenet5c {release}"

extensions = [
    "hawkmoth",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxarg.ext",
]
examples = ROOT / "examples" / "gallery"
exclude_patterns = [
    "_templates",
    *(  # built once, of an example that is gone
        f"gallery/{page.name}"
        for page in (HERE / "gallery").glob("plot_*.rst")
        if not (examples / f"{page.stem}.py").exists()
    ),
]
smartquotes = False  # --help is not a dash and a word
templates_path = ["_templates"]
nitpicky = True
nitpick_ignore = [
    ("py:class", "collections.abc.Callable"),
    *(("c:identifier", name) for name in ("int32_t", "ptrdiff_t", "size_t", "uint8_t")),
]
default_role = "py:obj"  # `Model.fit` in a docstring is a link where there is a page

# Markdown: links to headings as GitHub makes them.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# Docstrings: types stand in their sections, so that signatures are short.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_ignore_module_all = False
autosummary_imported_members = True
# Names of modules that lenet5c has itself, where their pages are.
autosummary_context = {
    "aliases": [
        f"{module.__name__}.{name}"
        for module in MODULES[:-1]
        for name in module.__all__
        if getattr(module, name) is getattr(lenet5c, name, None)
    ]
}
numpydoc_show_class_members = False
# The classes among the types of parameters and results are links.
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"  # other words
numpydoc_xref_aliases = {word: word for word in DEFAULT_LINKS}
for module in MODULES:
    for name in module.__all__:
        if isclass(getattr(module, name)):
            numpydoc_xref_aliases[name] = f"{module.__name__}.{name}"
for path in re.findall(r"^   ~(.+)$", (HERE / "api.md").read_text("utf-8"), re.M):
    numpydoc_xref_aliases[path.rpartition(".")[2]] = f"lenet5c.{path}"
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

hawkmoth_root = str(ROOT / "csrc")
hawkmoth_compiler = os.environ.get("CC", "cc")  # whose system headers are read
hawkmoth_clang = [f"-I{sysconfig.get_path('include')}"]  # lenet5c_api.h reads Python.h

sphinx_gallery_conf = {
    "examples_dirs": str(examples),
    "gallery_dirs": "gallery",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib", "figures.scrape"),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "ignore_repr_types": r"matplotlib\.",
    "write_computation_times": False,
}

html_math_renderer = "mathml"  # MathJax would come over a network

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "header_links_before_dropdown": 7,
    "show_prev_next": False,
    "navigation_with_keys": False,
    "footer_start": [],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
}
html_sidebars = {
    page: [] for page in ("c_api", "command_line", "changelog", "contributing")
}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False

# Files of the repository that are pages here under another name.
PAGES = {
    "README": "index",
    "CHANGELOG": "changelog",
    "CONTRIBUTING": "contributing",
    "SECURITY": "security",
}


class RepositoryLinks(SphinxTransform):
    """Links that lead to files on GitHub lead somewhere here as well.

    A file that is a page is linked as one, and named by its title in place of
    `data.md`; a folder, which a site cannot show, is named. All other files are
    downloads already, by MyST.
    """

    default_priority = 10

    def apply(self, **options: Any) -> None:
        kinds = (addnodes.download_reference, addnodes.pending_xref)
        for link in list(self.document.findall(lambda node: isinstance(node, kinds))):
            if link.get("reftype") != "myst":
                continue
            target = Path(link["reftarget"].partition("#")[0])
            if target.stem in PAGES:
                page = addnodes.pending_xref(
                    "",
                    *link.children,
                    refdoc=self.env.docname,
                    refdomain="doc",
                    reftype="myst",
                    reftarget=PAGES[target.stem],
                    reftargetid=None,
                    refexplicit=True,
                )
                link.replace_self(page)
            elif (HERE / target).is_dir() or (ROOT / target).is_dir():
                link.replace_self(nodes.inline("", "", *link.children))
            elif Path(link.astext()).name == f"{target.name}.md":
                link["refexplicit"] = False


def names_in_code(app: Sphinx, document: nodes.document) -> None:
    """`lenet5c.Augment(shift=2)` in a text is a link to what it names."""
    for code in list(document.findall(nodes.literal)):
        name = re.match(r"(lenet5c(\.[A-Za-z]\w*)+)(\(.*\))?$", code.astext())
        if name is None or not isinstance(code.parent, nodes.paragraph | nodes.entry):
            continue
        link = addnodes.pending_xref(
            "",
            refdoc=app.env.docname,
            refdomain="py",
            reftype="obj",
            reftarget=name[1],
        )
        code.replace_self(link)
        link += code


def examples_of_commands(app: Sphinx, document: nodes.document) -> None:
    """The lines below `examples:` in the help of a command are code."""
    for item in document.findall(nodes.definition_list_item):
        if item[0].astext() == "examples:":
            lines = item[-1].astext()
            item[-1].clear()
            item[-1] += nodes.literal_block(lines, lines, language="sh")


def unknown_name(
    app: Sphinx, env: Any, node: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.TextElement | None:
    """`x` in a docstring is code; only where it names a page it is a link as well.

    `Model.fit` does so from other modules, too.
    """
    if node.get("refdomain") != "py" or node["reftype"] != "obj":
        return None
    of, builder, name = node["refdoc"], app.builder, f"lenet5c.{node['reftarget']}"
    domain = env.get_domain("py")
    return domain.resolve_xref(env, of, builder, "obj", name, node, text) or text


def of_cython(
    app: Sphinx,
    what: str,
    name: str,
    value: object,
    options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str, None] | None:
    """`Predictor.f(self, float[:, ::1] y, int part=16)` is `(y, part=16)`.

    Cython writes signatures into the first line of docstrings.
    """
    first = re.match(r"[\w.]+\((self(, )?)?(.*)\)\n", value.__doc__ or "")
    if what != "method" or first is None:
        return None
    names = re.sub(r"\w+(\[[:, 1]+\])? (?=\w)", "", first[3])
    return f"({names})", None


def constants(
    app: Sphinx, what: str, name: str, value: object, options: Any, lines: list[str]
) -> None:
    """A constant's description stands where it is defined, below its value."""
    if what != "data":
        return
    lines.clear()  # `dict() -> new empty dictionary` and the like
    name = name.rpartition(".")[2]
    for module, its in list(sys.modules.items()):
        if module.startswith("lenet5c.") and vars(its).get(name) is value:
            with contextlib.suppress(PycodeError):
                comments = ModuleAnalyzer.for_module(module).find_attr_docs()
                lines.extend(comments.get(("", name), ()))
                if lines:
                    return


def mathml(display: str) -> tuple[Any, None]:
    """Formulas as MathML, which browsers draw by themselves."""

    def visit(writer: Any, formula: nodes.Element) -> None:
        writer.body.append(convert(formula.astext(), display=display))
        raise nodes.SkipNode

    return visit, None


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", mathml("inline"), mathml("block"))
    app.add_transform(RepositoryLinks)
    app.connect("doctree-read", names_in_code)
    app.connect("doctree-read", examples_of_commands)
    app.connect("missing-reference", unknown_name)
    app.connect("autodoc-process-docstring", constants)
    app.connect("autodoc-process-signature", of_cython, priority=100)
