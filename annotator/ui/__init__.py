"""The app: the only code that imports streamlit. Views read properties, draw, and hand over callbacks."""
