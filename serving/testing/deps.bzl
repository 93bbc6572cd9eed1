"""What each Python source of this folder imports; `./bazelw run //infra/lint -- --fix` writes it."""

DEPS = {
    "example.py": ["//models:architecture", "//models:weights", "//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry:example", "@pip//:numpy"],
    "gateway_process.py": ["//serving/client:sync"],
    "grpc_process.py": [":grpc_server", ":served_models", "//base:memory", "//serving/core:channel", "//serving/core:outcome", "//serving/core:signature", "//serving/protocols/over_grpc:options"],
    "grpc_server.py": [":local_engine", ":served_models", "//proto/inference:grpc_service_py_proto", "//serving/core:channel", "//serving/core:model", "//serving/core:model_control", "//serving/protocols/over_grpc:options", "//serving/protocols/over_grpc:server", "//serving/replicas:compute", "@pip//:grpcio", "@pip//:numpy", "@pip//:uvloop"],
    "held_channels.py": ["//serving/core:channel", "//serving/core:errors", "//serving/core:model", "//serving/core:signature", "//serving/replicas:compute", "@pip//:numpy"],
    "jobs.py": [":local_replica", "//serving/core:channel", "//serving/core:errors", "//serving/replicas:limits", "@pip//:numpy", "@pip//:uvloop"],
    "local_engine.py": [":held_channels", ":local_replica", "//serving/core:admission", "//serving/core:batcher", "//serving/core:catalog", "//serving/core:channel", "//serving/core:engine", "//serving/core:model", "//serving/core:outcome", "//serving/replicas:compute"],
    "local_replica.py": ["//serving/core:channel", "//serving/core:errors", "//serving/core:signature", "//serving/replicas:channel", "//serving/replicas:compute", "//serving/replicas:connecting", "//serving/replicas:limits", "//serving/replicas:model", "//serving/replicas:server", "@pip//:numpy"],
    "peers.py": ["//proto/hpc/serving/v1:transport_py_proto", "//serving/replicas:addresses", "//serving/replicas:frames", "//serving/replicas:handshake", "//serving/replicas:hello", "@pip//:protobuf"],
    "placed_model.py": [":local_replica", "//registry:access", "//serving:errors", "//serving/configuration:model_config", "//serving/control:cluster", "//serving/control:environment", "//serving/control:options", "//serving/control:placement", "//serving/control:supervision", "//serving/core:channel", "//serving/core:model", "//serving/core:signature"],
    "placed_process.py": ["//serving/configuration:model_config", "//serving/control:options", "//serving/control:reaper"],
    "ray_nodes.py": ["//serving/control:object_store", "//serving/control:reaper"],
    "replica_process.py": ["//serving/core:signature", "//serving/replicas:compute", "//serving/replicas:limits", "//serving/replicas:model", "//serving/replicas:server", "@pip//:numpy"],
    "rude_client.py": ["//proto/inference:grpc_service_py_proto"],
    "served_models.py": [":local_replica", "//serving/core:model", "//serving/core:signature", "//serving/replicas:compute", "@pip//:numpy"],
    "several_tensors.py": ["//proto/hpc/artifact/v1:artifact_py_proto", "//registry:artifact", "//registry:example", "//registry/programs:formats", "//registry/programs:probe", "@pip//:jax", "@pip//:ml_dtypes", "@pip//:numpy", "@pip//:torch"],
}
