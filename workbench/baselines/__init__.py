"""Other ways to the same end, on the same pairs and budget: what RAHF has to be better than to be worth it.

Nothing heavy is imported here, so that settings can be read quickly.
"""

# Methods that make something of the pairs; ``prompt`` needs nothing but the instruction p+.
METHODS = ("sft", "hir", "dpo", "steering")
RAHF = ("scit", "dual")
NAMES = {
    "base": "Base",
    "prompt": "Prompt p+",
    "steering": "Steering",
    "sft": "SFT",
    "hir": "HIR",
    "dpo": "DPO",
    "scit": "RAHF-SCIT",
    "dual": "RAHF-Dual",
}
