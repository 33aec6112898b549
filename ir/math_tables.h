/* Minimax polynomials of math.c, lowest power first. Written by tests/tools/remez.py. */
/* error 2^-28.2 */
static const double EXP_F32[] = {0x1.fffffc0000000p-2, 0x1.5554880000000p-3, 0x1.5558400000000p-5,
                                 0x1.1240bc0000000p-7, 0x1.6aea720000000p-10};
/* error 2^-29.2 */
static const double EXP_ROOT_F32[] = {0x1.0002220000000p-1, 0x1.55559c0000000p-3};
/* error 2^-56.5 */
static const double EXP_F64[] = {
    0x1.000000000000ap-1,  0x1.5555555555498p-3,  0x1.555555555042bp-5,  0x1.1111111122c45p-7,
    0x1.6c16c185f08e9p-10, 0x1.a01a01b9149c1p-13, 0x1.a019934e308b1p-16, 0x1.71dd1f954948fp-19,
    0x1.28b5073598ebcp-22, 0x1.b1adb824107f6p-26};
/* error 2^-27.5 */
static const double EXP2_F32[] = {0x1.62e4320000000p-1,  0x1.ebfbe60000000p-3,
                                  0x1.c6ada80000000p-5,  0x1.3b21cc0000000p-7,
                                  0x1.5fbd120000000p-10, 0x1.4bd4060000000p-13};
/* error 2^-59.7 */
static const double EXP2_F64[] = {
    0x1.62e42fefa39efp-1,  0x1.ebfbdff82c58ep-3,  0x1.c6b08d704a1c1p-5,  0x1.3b2ab6fba5260p-7,
    0x1.5d87fe787a91fp-10, 0x1.430912f6dee2ap-13, 0x1.ffcbfd210260dp-17, 0x1.62c02a033846fp-20,
    0x1.b523961f62157p-24, 0x1.e4adf38341444p-28, 0x1.ebc7fb265b61cp-32, 0x1.f735136395b98p-36};
/* error 2^-32.0 */
static const double EXP2_POW[] = {
    0x1.62e4300c4b645p-1,  0x1.ebfbe0474fbbdp-3,  0x1.c6b054342fc63p-5, 0x1.3b2a197735f06p-7,
    0x1.5dc0c5fa7806dp-10, 0x1.4442132b6ae54p-13, 0x1.c04883b665c90p-17};
/* error 2^-27.3 */
static const double LOG_F32[] = {
    0x1.5555540000000p-2, -0x1.0002280000000p-2, 0x1.99a0360000000p-3, -0x1.5472180000000p-3,
    0x1.22d6d40000000p-3, -0x1.0d84e20000000p-3, 0x1.056e700000000p-3, -0x1.38dc800000000p-4};
/* error 2^-58.5 */
static const double LOG_F64[] = {0x1.5555555555592p-1, 0x1.999999997fedap-2, 0x1.24924941e7335p-2,
                                 0x1.c71c520e16ad2p-3, 0x1.74663e722bd36p-3, 0x1.39a1bc60cc149p-3,
                                 0x1.2f05a778bce1dp-3};
/* error 2^-43.9 */
static const double LOG_POW[] = {0x1.555555561e7edp-1, 0x1.999996a8975b6p-2, 0x1.2494123f4d5aep-2,
                                 0x1.c62af82d12476p-3, 0x1.91175a39e2486p-3};
/* error 2^-72.5 */
static const double LOG_DD[] = {0x1.9999999999996p-2, 0x1.2492492492f52p-2, 0x1.c71c71c596599p-3,
                                0x1.745d182979285p-3, 0x1.3b1364be38e19p-3, 0x1.11207110399f3p-3,
                                0x1.de3d1cccc85a8p-4, 0x1.eac8aaa47da24p-4};
/* error 2^-26.9 */
static const double TANH_F32[] = {-0x1.55551c0000000p-2, 0x1.11024e0000000p-3,
                                  -0x1.b79ba80000000p-5, 0x1.4e1b3e0000000p-6,
                                  -0x1.641bd20000000p-8};
/* error 2^-30.0 */
static const double ERF_F32[] = {
    0x1.06eba80000000p-3, -0x1.8127400000000p-2,  0x1.ce2d5e0000000p-4, -0x1.b800060000000p-6,
    0x1.5439b00000000p-8, -0x1.a53f020000000p-11, 0x1.4bf8a40000000p-14};
/* error 2^-56.0 */
static const double ERF_F64[] = {
    0x1.06eba8214db68p-3,  -0x1.812746b03799dp-2,  0x1.ce2f21a03f8b6p-4,  -0x1.b82ce311a95cep-6,
    0x1.565bcceed1cb3p-8,  -0x1.c02daeb4c6394p-11, 0x1.f9a2965d43f4dp-14, -0x1.f4c827104e4e3p-17,
    0x1.b96ae719e12e0p-20, -0x1.5b88c26199005p-23, 0x1.d3bc8069ed9f4p-27, -0x1.a1c10e23b24c6p-31};
/* error 2^-27.8 */
static const double LOG2ERFC_F32[] = {-0x1.e753280000000p+1, -0x1.37626c0000000p+0,
                                      -0x1.eb48fe0000000p-5, 0x1.da7bba0000000p-7,
                                      -0x1.70fc700000000p-9, 0x1.4fa27e0000000p-12};
/* error 2^-26.6 */
static const double LOG2NORMAL_F32[] = {
    -0x1.26aed40000000p+0, -0x1.d63ac20000000p-2, -0x1.ae0a7e0000000p-5, 0x1.ced1e40000000p-8,
    -0x1.1d0cb40000000p-13, -0x1.87372c0000000p-13, 0x1.4ab5880000000p-15, -0x1.7c595c0000000p-19};
/* error 2^-25.8 */
static const double NORMAL_F32[] = {
    0x1.4000000000000p+0, -0x1.3e4ef40000000p+0, 0x1.5b5b160000000p-3, 0x1.2adf4c0000000p-2,
    0x1.caed600000000p-5, -0x1.3284ba0000000p-3, 0x1.1a388c0000000p-3, -0x1.40a23c0000000p-2,
    0x1.1e4c940000000p-2, -0x1.46bc880000000p-4};
/* error 2^-53.1 */
static const double NORMAL_F64[] = {
    0x1.0000000000000p+1,   -0x1.1884533d436c7p+2, 0x1.4ef759857ead9p+2,  -0x1.989d6b5541008p+1,
    0x1.2e7c376bad1bep-2,   0x1.6e9bbdde876e7p-1,  -0x1.ecc2ef3ef0001p-4, -0x1.be7440e12cc39p-3,
    -0x1.0fd901243975cp-10, 0x1.0cb8670e6acfcp-4,  0x1.6d1c0d89ef795p-5,  -0x1.360c87b63189fp-4,
    0x1.0b39a1f66850bp-3,   -0x1.151e750fd0063p-2, 0x1.7c01248b8e761p-2,  -0x1.69cb2d5b1f4eep-2,
    0x1.bcb78ede4a741p-3,   -0x1.2de819f69926ep-5, -0x1.0c2acb20341b5p-4, 0x1.ef5f24a878d65p-5,
    -0x1.6baf5ef9003dap-6,  0x1.9f3f65f2d81ccp-9};
/* error 2^-29.3 */
static const double LOG1P_UNIT_F32[] = {
    0x1.5554b40000000p-2,  -0x1.ffdcf00000000p-3, 0x1.9817560000000p-3,
    -0x1.4c5ada0000000p-3, 0x1.03ab0e0000000p-3,  -0x1.5fe2640000000p-4,
    0x1.6acfda0000000p-5,  -0x1.e0ed9c0000000p-7, 0x1.2a34c20000000p-9};
/* error 2^-27.8 */
static const double SIN_F32[] = {-0x1.5555440000000p-3, 0x1.1106c60000000p-7,
                                 -0x1.991c3a0000000p-13};
/* error 2^-32.8 */
static const double COS_F32[] = {0x1.55554a0000000p-5, -0x1.6c0c260000000p-10,
                                 0x1.99e68e0000000p-16};
/* error 2^-63.1 */
static const double SIN_F64[] = {
    -0x1.5555555555555p-3,  0x1.1111111111069p-7,  -0x1.a01a019ffe548p-13, 0x1.71de3a33ae251p-19,
    -0x1.ae642c6635ba0p-26, 0x1.6109d10e88facp-33, -0x1.a00a93a22618cp-41};
/* error 2^-69.0 */
static const double COS_F64[] = {
    0x1.5555555555555p-5,  -0x1.6c16c16c16b31p-10, 0x1.a01a019ffcf76p-16, -0x1.27e4fb5a7da94p-22,
    0x1.1eed7001b6aaep-29, -0x1.9374fd6d97cbdp-37, 0x1.9e049988e2cd2p-45};
/* error 2^-28.5 */
static const double ATAN_F32[] = {
    -0x1.55553e0000000p-2, 0x1.9991e40000000p-3,  -0x1.2420860000000p-3,
    0x1.c08c500000000p-4,  -0x1.5809340000000p-4, 0x1.da2ae20000000p-5,
    -0x1.fd81740000000p-6, 0x1.642b2e0000000p-7,  -0x1.d36c0a0000000p-10};
/* error 2^-56.4 */
static const double ATAN_F64[] = {
    -0x1.5555555555526p-2, 0x1.99999999955b1p-3,  -0x1.249249237f4a7p-3,  0x1.c71c717fcc5b6p-4,
    -0x1.745d11ae407aep-4, 0x1.3b136697f22e0p-4,  -0x1.110e511646e55p-4,  0x1.e1bba5b52d847p-5,
    -0x1.ae5e6fd34c458p-5, 0x1.82dace72867e1p-5,  -0x1.59a3e8f79c3d6p-5,  0x1.2c2e32ef0e59bp-5,
    -0x1.e9f9926d2443dp-6, 0x1.683c3cbd1e3e9p-6,  -0x1.c78ed642e32fbp-7,  0x1.d7b7e14087f6bp-8,
    -0x1.7a3860be7e805p-9, 0x1.b3f92cc1c5d7bp-11, -0x1.3f34fc9e6b318p-13, 0x1.bbeba6148a243p-17};
/* error 2^-27.0 */
static const double ASIN_F32[] = {0x1.5555c80000000p-3, 0x1.3301fc0000000p-4, 0x1.747ddc0000000p-5,
                                  0x1.8c158e0000000p-6, 0x1.5999b60000000p-5};
/* error 2^-55.6 */
static const double ASIN_F64[] = {
    0x1.555555555538ep-3, 0x1.333333336ec41p-4, 0x1.6db6db424a50ap-5,  0x1.f1c72c49d202fp-6,
    0x1.6e89f2900c841p-6, 0x1.1c6bfc6e2b025p-6, 0x1.c6fb9d113893ap-7,  0x1.8ed16a11cf165p-7,
    0x1.ab5067b399850p-8, 0x1.404c95b8668ddp-6, -0x1.0a5e6c3dd13f7p-6, 0x1.059d8bd7e2319p-5};
/* 2/pi for |x| below 2^48, 2^72, 2^96, 2^120 and 2^128: 29, 29 and 53 bits, without the bits whose
 * products with such an x are multiples of 4. */
static const double TWO_OVER_PI[5][3] = {
    {0x1.45f306d000000p-1, 0x1.9391054000000p-30, 0x1.4fe13abe8fa9ap-59},
    {0x1.6e4e441000000p-24, 0x1.4a7f09c000000p-54, 0x1.5f47d4d377036p-82},
    {0x1.529fc20000000p-52, 0x1.d5f47d4000000p-78, 0x1.a6ee06db14accp-107},
    {0x1.3abe8f8000000p-75, 0x1.4d37702000000p-102, 0x1.6d8a5664f10e4p-130},
    {0x1.f534ddc000000p-96, 0x1.b6c52b0000000p-129, 0x1.93c439041fe00p-156},
};
/* pi/2 in parts of 33 bits, the last of 53 */
static const double PI_HALF_PARTS[3] = {0x1.921fb54400000p+0, 0x1.0b4611a600000p-34,
                                        0x1.3198a2e037073p-69};
