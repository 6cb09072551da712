"""The page: ``python app.py [--port 7860] [--host 127.0.0.1] [--open] [--owner]``. Hugging Face Spaces starts this file too."""

from workbench.ui import main

if __name__ == "__main__":
    main()
