"""The generator of the demo: facts, sentence grammars, corpus, training and measuring."""
