"""The HTTP face of a coordinator: Falcon resources and the marshmallow schemas they speak."""
