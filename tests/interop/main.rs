//! Real client libraries against a broker: librdkafka, Java, franz-go, confluent-kafka, kafka-python,
//! aiokafka, kafkajs, `@platformatic/kafka`, sarama, kafka-go, kcat, and Apache Kafka's own tools.
#![cfg(feature = "interop")]
