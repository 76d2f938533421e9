"""What is read from files: YAML 1.2 with positions, checked by pydantic.

pydantic is imported in this package only, and here only by the modules that need it: `yaml12`, `fixture` and `locate`
do without, because a fixture's process starts in a third of the time when it does not import pydantic.
"""
