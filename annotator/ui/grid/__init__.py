"""The labeling component: what the browser runs is grid.js and the modules beside it; here it is only mounted."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import streamlit as st


@cache
def component() -> Callable[..., Any]:  # Any: Streamlit's own result type
    """The component's mounting command; made on first use, when Streamlit has found the package's files."""
    return st.components.v2.component("annotator.grid", html="", css="grid.css", js="grid.js")
