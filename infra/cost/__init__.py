"""What a stack costs: ``make cost``, from dated prices and measured figures."""
