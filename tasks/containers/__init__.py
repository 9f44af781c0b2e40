"""Users' own containers: find or build the image, run it hardened, collect its output."""
