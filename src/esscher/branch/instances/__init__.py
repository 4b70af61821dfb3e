"""Random instances of four classes, and files.

from esscher.branch.instances.kind import instance
from esscher.branch.instances.sizes import named

milp = instance(named("setcover-165x230"), seed=0, i=3)
model = milp.to_scip()
"""
