"""What is made of several verbs: comparisons, the gate, the demo. One file each; verbs know none of them."""
