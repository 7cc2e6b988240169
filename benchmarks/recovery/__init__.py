"""How long a mesh is without a worker that died, stopped or hung, beside other supervisors, in one run."""
