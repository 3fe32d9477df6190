"""The initial value of a keyed widget, set again when what it comes from has changed.

Streamlit keeps what a keyed widget holds for as long as it is drawn, whatever `value=` or `index=` says by then. So the
value of a field that comes from something which can change (a folder, the settings of a project) is set here.
"""

from __future__ import annotations

import streamlit as st


def starts_from(key: str, value: object, basis: object = None) -> str:
    """The widget's `key`, for a widget that is given no `value=` or `index=` beside it.

    It holds `value` when it is first drawn, and again as soon as `basis` (without one: the value) is another than at
    the last run. In between it holds what a person typed.
    """
    now, basis_key = value if basis is None else basis, f"{key}:starts-from"
    if key not in st.session_state or st.session_state.get(basis_key) != now:
        st.session_state[key] = value
    st.session_state[basis_key] = now
    return key
