"""What we look at: any source of images and labels as two tables and a ledger in which every file stands once."""
