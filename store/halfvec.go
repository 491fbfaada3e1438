package store

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// halfvec is a pgvector halfvec in its binary form: big-endian uint16 dimensions, uint16 zero, IEEE 754 half floats.
type halfvec []byte

// unitHalfvec checks a vector, scales it to length 1 (so that inner product is cosine similarity and nothing overflows
// half precision) and encodes it.
func unitHalfvec(v []float32, dimensions int) (halfvec, error) {
	if len(v) != dimensions {
		return nil, fmt.Errorf("%w: it has %d dimensions, the space has %d", ErrInvalidVector, len(v), dimensions)
	}
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return nil, fmt.Errorf("%w: it holds NaN or infinity", ErrInvalidVector)
	}
	if sum == 0 {
		return nil, fmt.Errorf("%w: it is zero", ErrInvalidVector)
	}
	scale := 1 / math.Sqrt(sum)
	b := make(halfvec, 4, 4+2*len(v))
	binary.BigEndian.PutUint16(b, uint16(len(v)))
	for _, x := range v {
		b = binary.BigEndian.AppendUint16(b, float16bits(float32(float64(x)*scale)))
	}
	return b, nil
}

// float16bits rounds x, of magnitude at most 1, to the nearest half float, ties to even.
func float16bits(x float32) uint16 {
	bits := math.Float32bits(x)
	sign := uint16(bits>>16) & 0x8000
	exponent := int(bits>>23&0xff) - 127 + 15
	mantissa := bits & 0x7fffff
	switch {
	case exponent >= 31:
		return sign | 0x7bff // not reached for unit vectors; the largest finite half
	case exponent < -10:
		return sign
	case exponent <= 0: // subnormal
		mantissa |= 0x800000
		shift := uint(14 - exponent)
		return sign | uint16(roundShift(mantissa, shift))
	}
	return sign | uint16(uint32(exponent)<<10+roundShift(mantissa, 13)) // a carry moves into the exponent, as it should
}

func roundShift(m uint32, shift uint) uint32 {
	half := uint32(1) << (shift - 1)
	q, rest := m>>shift, m&(1<<shift-1)
	if rest > half || rest == half && q&1 == 1 {
		q++
	}
	return q
}

// registerHalfvec teaches a connection the type, whose OID differs between databases.
func registerHalfvec(ctx context.Context, conn *pgx.Conn) error {
	var oid *uint32
	if err := conn.QueryRow(ctx, "SELECT to_regtype('halfvec')::oid").Scan(&oid); err != nil {
		return err
	}
	if oid == nil {
		return fmt.Errorf("%w: the vector extension is not created in this database: run CREATE EXTENSION vector", ErrIncompatible)
	}
	conn.TypeMap().RegisterType(&pgtype.Type{Name: "halfvec", OID: *oid, Codec: halfvecCodec{}})
	return nil
}

// halfvecCodec sends halfvec values as they are and never reads them.
type halfvecCodec struct{}

func (halfvecCodec) FormatSupported(format int16) bool { return format == pgtype.BinaryFormatCode }
func (halfvecCodec) PreferredFormat() int16            { return pgtype.BinaryFormatCode }

func (halfvecCodec) PlanEncode(_ *pgtype.Map, _ uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(halfvec); ok && format == pgtype.BinaryFormatCode {
		return encodeHalfvec{}
	}
	return nil
}

type encodeHalfvec struct{}

func (encodeHalfvec) Encode(value any, buf []byte) ([]byte, error) {
	v := value.(halfvec)
	if v == nil {
		return nil, nil
	}
	return append(buf, v...), nil
}

func (halfvecCodec) PlanScan(_ *pgtype.Map, _ uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*halfvec); ok && format == pgtype.BinaryFormatCode {
		return scanHalfvec{}
	}
	return nil
}

type scanHalfvec struct{}

func (scanHalfvec) Scan(src []byte, dst any) error {
	*dst.(*halfvec) = append(halfvec(nil), src...)
	return nil
}

func (halfvecCodec) DecodeDatabaseSQLValue(*pgtype.Map, uint32, int16, []byte) (driver.Value, error) {
	return nil, fmt.Errorf("halfvec: not supported by database/sql")
}

func (halfvecCodec) DecodeValue(_ *pgtype.Map, _ uint32, _ int16, src []byte) (any, error) {
	return append(halfvec(nil), src...), nil
}
