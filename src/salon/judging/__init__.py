"""The jury: what no method may import and no method is trained on."""
