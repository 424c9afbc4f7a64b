"""The driving side: GraphQL over HTTP, the command line, and what wires everything together."""
