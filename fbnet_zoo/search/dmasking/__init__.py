"""FBNetV2's method: a supernet with masks over channels, expansions and image sizes."""
