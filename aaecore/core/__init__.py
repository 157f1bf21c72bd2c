"""The waist: the op table, memory, launches, recorded steps. It knows no device, no gradient and no model."""
