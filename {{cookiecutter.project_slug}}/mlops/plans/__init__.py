"""What a run or a change would do, before it is done."""
