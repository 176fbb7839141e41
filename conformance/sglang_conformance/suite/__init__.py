"""The checks, one module an area, named after it. ``areas.py`` lists them; ``declare.py`` says how one is written."""
