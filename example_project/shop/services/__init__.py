"""What the shop does, as plain functions; one module for each part of the business."""
