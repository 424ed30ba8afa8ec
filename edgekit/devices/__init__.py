"""The devices that models go to: reaching them, knowing them, setting them up, and serving releases there."""
