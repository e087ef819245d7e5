"""The commands besides search: one candidate alone, scores of files, a run scored again."""
