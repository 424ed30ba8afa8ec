"""What is measured against labels or a reference: one file per metric."""
