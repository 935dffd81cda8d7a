"""Control: decides when a model is trained again."""
