"""Side-by-side measurements. Figures move with the machine; ratios carry."""
