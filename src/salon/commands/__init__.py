"""Commands that are no stage: serving, looking, searching, several seeds, keeping the registry in step."""
