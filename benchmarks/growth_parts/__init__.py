"""The parts of `growth.py`: made images, and what is measured with them, each in a fresh process."""
