"""Where processes and connections meet: the programs that run inside the mesh."""
