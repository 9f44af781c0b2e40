"""compress-images and convert-images: single picture files, and sets of them."""
