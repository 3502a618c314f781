schema: '1.2'
contents:
  - core.fga
  - books/books.fga
