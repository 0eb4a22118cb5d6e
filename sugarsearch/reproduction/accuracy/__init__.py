"""Tables of accuracies: surrogates in both arms, in several models, over seeds and learning rates."""
