"""`streamlit run app.py` serves everything, as `annotator run` does. The literal below is what Streamlit looks for."""

import streamlit as st

from annotator.ui.server import SCRIPT, importing_ahead, middleware, routes

app = st.App(SCRIPT, routes=routes(), middleware=middleware(), lifespan=importing_ahead)
