// Command footnote is a semantic search and question-answering service over one's own documents.
package main

func main() {}
