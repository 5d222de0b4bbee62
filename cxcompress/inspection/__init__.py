"""What a network's layers represent: similarity of layers (CKA), filters and feature maps."""
