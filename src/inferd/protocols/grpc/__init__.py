"""What every gRPC service needs alike: messages, exchanges, errors, health and reflection."""
