"""The light models: adapters on cached activations, their training and their ensemble."""
